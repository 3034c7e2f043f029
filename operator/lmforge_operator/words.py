"""Numbers as people read them."""


def short_number(value: float) -> str:
    """Three digits and a unit: 18.2k, 1.05M, 730."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def short_duration(seconds: float) -> str:
    """The two largest units: 1m40s, 2h5m, 3d4h."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, size)
        parts.append((amount, unit))
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return "".join(f"{amount}{unit}" for amount, unit in parts[:2] if amount) or "0s"


def short_bytes(size: float) -> str:
    """Three digits and a unit of 1024: 1.25 GiB."""
    for unit, power in (("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if size >= 1024**power:
            return f"{size / 1024**power:.3g} {unit}"
    return f"{size:.0f} B"


def counted(amount: int, noun: str) -> str:
    """1 pod, 2 pods."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


_UNITS = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    f"{unit}i": 1024.0 ** (power + 1) for power, unit in enumerate("KMGTP")
}


def number_of(quantity: str) -> float:
    """A Kubernetes quantity as a number: 4Gi, 500M."""
    number = quantity.rstrip("mkKMGTPi")
    return float(number) * _UNITS[quantity[len(number) :]]
