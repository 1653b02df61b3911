"""The renderer's program: reads Vega-Lite charts as JSON, one a line, and answers each with its SVG, or with an error.

A process of its own (pictures.py starts it), because a character that XML forbids makes vl-convert abort the process.
It imports nothing of ours, so that it starts quickly.
"""

import json
import sys

import vl_convert

for line in sys.stdin:
    try:
        answer = {"svg": vl_convert.vegalite_to_svg(json.loads(line))}
    except ValueError as error:
        answer = {"error": " ".join(str(error).split())}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
