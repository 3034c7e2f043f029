"""python -m e2e.bench [NAME…]    runs these benches, or all of them; each has options of its own: see its --help."""

from __future__ import annotations

import argparse
import subprocess
import sys

BENCHES = {
    "overhead": "(a) tokens/s of a TrainingJob against the same training without the operator",
    "control_plane": "(b) objects a second, CPU and memory of the operator with thousands of TrainingJobs",
    "jobset": "(b) the same burst through LMForge and through JobSet, alternating",
    "recovery": "(c) seconds from a killed pod to the next training step",
    "gateway": "(d) what the gateway adds to a request and to a thousand streams, without a cluster",
    "serving": "(e) what router and gateway cost beside the engine alone, and how soon the autoscaler reacts",
    "routing": "(f) conversations over two replicas: cache-aware against round-robin routing",
    "finetune": "(g) tokens/s and memory of a FineTune against the same training written directly on trl",
}


def main() -> int:
    listed = "\n".join(f"  {name:15}{what}" for name, what in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m e2e.bench", description=f"{__doc__}\n\n{listed}", formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help=argparse.SUPPRESS)
    names = parser.parse_args().names or list(BENCHES)
    print(listed)
    return max(subprocess.run([sys.executable, "-m", f"e2e.bench.{name}"], check=False).returncode for name in names)


if __name__ == "__main__":
    sys.exit(main())
