"""The command line: a verb is a function of the floors above."""
