"""Real pools, images and a simulated Kaggle machine, made on this machine for tests/hpc."""
