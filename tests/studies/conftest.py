"""What tests of several studies share lies beside this file, which puts it on their path."""
