"""Renders one source for two places to run: HTCondor (`pack condor`) and Kaggle (`pack kaggle`)."""
