"""Say what the camera sees whenever that changes: camera.py BUNDLE [picamera2|opencv]."""

import os
import socket
import sys
from collections.abc import Iterator

import numpy as np

from pennyweight import load


def picamera2_frames() -> Iterator[np.ndarray]:
    from picamera2 import Picamera2

    with Picamera2() as camera:
        # What picamera2 calls RGB888 has blue first in the array, as OpenCV has it.
        camera.configure(camera.create_video_configuration({"format": "RGB888", "size": (640, 480)}))
        camera.start()
        while True:
            yield camera.capture_array()


def opencv_frames() -> Iterator[np.ndarray]:
    import cv2

    camera = cv2.VideoCapture(0)
    while True:
        got, frame = camera.read()
        if not got:
            sys.exit("the camera gives no frames")  # the unit starts the program again
        yield frame


def tell_systemd(state: str) -> None:
    """Send a state to the service manager, as sd_notify(3) does; do nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), address.replace("@", "\0", 1))


def main(bundle: str, camera: str = "picamera2") -> None:
    model = load(bundle)
    print(model.describe(), flush=True)
    before = None
    for frame in {"picamera2": picamera2_frames, "opencv": opencv_frames}[camera]():
        label, probability = model.classify(frame, colour="bgr")
        # From the first answer on, a camera that stands still is noticed too.
        tell_systemd("READY=1\nWATCHDOG=1")
        if label != before:
            print(f"{label} {probability:.3f}", flush=True)
            before = label


if __name__ == "__main__":
    main(*sys.argv[1:])
