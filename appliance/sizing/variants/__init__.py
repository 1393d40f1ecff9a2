"""Decisions that compare whole plans: the same run in another way."""
