"""Send a GraphQL document with variables to a running `windlass up`: send.py DOCUMENT.graphql 'JSON variables'."""

import json
import pathlib
import sys
import urllib.request


def main() -> None:
    up = json.loads(pathlib.Path(".windlass/up.json").read_text())
    body = {
        "query": pathlib.Path(sys.argv[1]).read_text(),
        "variables": json.loads(sys.argv[2]) if len(sys.argv) > 2 else {},
    }
    request = urllib.request.Request(
        up["graphql"],
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {up['token']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(json.dumps(json.load(answer), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
