"""The cell learner: what colour a cell has in the output, learnt from all cells of a task."""
