"""The torchao quantizer that is made of annotators."""
