"""Numbers, durations and lists as the write-up spells them."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value):
    """1200 -> 1,200; 0.0005 -> 5×10⁻⁴; 0.05 -> 0.05."""
    size = abs(value)
    if size >= 1e4 or float(value).is_integer():
        text = f"{value:,.0f}"
    elif size >= 1e-3:
        text = f"{value:.4g}"
    else:
        mantissa, exponent = f"{value:.3e}".split("e")
        text = f"{float(mantissa):g}×10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return text.replace("-", "−")


def listed(parts):
    """["a", "b", "c"] -> "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
