"""LoRA adapters of a service: which there should be, what each replica has, what to ask of it, and asking it."""
