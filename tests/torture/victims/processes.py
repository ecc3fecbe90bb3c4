"""Every way to have other processes: fork, pools of all kinds, subprocesses, beside threads."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings

warnings.simplefilter("ignore")


def square(number):
    return number * number, len([bytes(300) for _ in range(2000)])


def busy(stop):
    while not stop.is_set():
        [bytes(i) for i in range(1000)]


def main():
    stop = threading.Event()
    threads = [threading.Thread(target=busy, args=(stop,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20):
        pid = os.fork()
        if pid == 0:
            square(number)
            os._exit(number)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == number
    stop.set()
    for thread in threads:
        thread.join()
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, sum(result for result, _ in pool.map(square, range(40))))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        print(sum(result for result, _ in pool.map(square, range(40))))
    print(subprocess.run("echo $((6*7)); exit 3", shell=True, capture_output=True, text=True))
    print(subprocess.check_output([sys.executable, "-c", "print(len([bytes(i) for i in range(3000)]))"]))
    sys.stdout.flush()
    print(os.system("exit 4"), os.popen("echo hello").read().strip())


if __name__ == "__main__":
    main()
