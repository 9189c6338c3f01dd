"""Stages and programs that tests run in other processes."""
