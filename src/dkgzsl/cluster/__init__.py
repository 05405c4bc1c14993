"""Shares of work on this machine or on the workers of a cluster (extra `cluster`)."""
