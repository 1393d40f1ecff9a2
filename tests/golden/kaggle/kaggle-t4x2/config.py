CONFIG = {
    'competition': 'arc-prize-2026',
    'dataset': 'someone/arc-appliance',
    'profile': 'kaggle-t4x2',
    'machine': {'gpu': 'T4', 'num_gpus': 2, 'min_gpu_memory_gib': 14.0, 'min_capability': 0, 'min_cores': 2, 'min_memory_gib': 24.0, 'min_disk_gib': 0, 'kaggle_machine_shape': 'NvidiaTeslaT4'},
    'budget_s': 37800.0,
    'smoke_s': 600.0,
    'settings': [],
}
