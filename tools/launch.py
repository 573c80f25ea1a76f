#!/usr/bin/env python
"""Start the processes of a training on several machines, and end all of them when one dies.

launch.py -n 2 -s 1 [-H HOSTS] python train/search_cifar.py --kv-store dist_sync ...

Without -H all run here. With it, a file with a host a line, workers and servers are started by ssh
on these in turn; each needs this folder at the same path, and the data. In a job of SLURM, --slurm
takes the nodes of its allocation, one worker each, and starts them by srun; a job that loses one,
or is warned of its time limit, is put back into the queue (docs/cluster.md).
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from launching import slurm
from launching.follow import BEAT, PASSED_ON
from launching.job import Job, say


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--workers", type=int, help="processes that train")
    parser.add_argument("-s", "--servers", type=int, default=1, help="processes that add up")
    parser.add_argument("-H", "--hostfile", help="a host a line; without it all run here")
    parser.add_argument("--slurm", action="store_true", help="on the nodes of this job of SLURM")
    ssh = f"ssh -o BatchMode=yes -o ServerAliveInterval={BEAT:.0f}"
    parser.add_argument("--ssh", default=ssh, help="how to reach a host")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what each worker runs")
    options = parser.parse_args()
    try:
        workers = options.workers or (1 if options.slurm else 0)
        if min(workers, options.servers) < 1 or not options.command:
            raise ValueError("-n and -s must be at least 1, and a command must follow")
        job = Job(options)
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:  # by nohup, or in a script's background
                signal.signal(number, job.ask)
        status = job.run()
        if options.slurm and status and job.may_go_on:
            if job.asked is not None and not slurm.has_begun(options.command):
                say("warned before the run had begun: give it more --time, or warn it later")
                return status
            say("this job goes back into the queue")
            slurm.requeue()
        return status
    except (ValueError, OSError) as error:
        say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
