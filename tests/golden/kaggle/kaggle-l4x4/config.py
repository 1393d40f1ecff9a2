CONFIG = {
    'competition': 'arc-prize-2026',
    'dataset': 'someone/arc-appliance',
    'profile': 'kaggle-l4x4',
    'machine': {'gpu': 'L4', 'num_gpus': 4, 'min_gpu_memory_gib': 21.5, 'min_capability': 8.9, 'min_cores': 8, 'min_memory_gib': 90.0, 'min_disk_gib': 0, 'kaggle_machine_shape': 'NvidiaL4'},
    'budget_s': 37800.0,
    'smoke_s': 600.0,
    'settings': [],
}
