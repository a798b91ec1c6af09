"""Files, guards, kernels, progress: what runs the study and is no part of its question."""
