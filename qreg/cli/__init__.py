"""The command line. Listing imports no torch: everything heavy is imported where it is used."""
