"""Renders one source for the places it runs in: HTCondor (`pack condor`) and Kaggle (`pack kaggle`)."""
