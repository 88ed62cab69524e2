"""What GPUs this machine has and how they are. The only package that calls NVML."""
