"""Counts its visits in redis."""

import os

import flask
import redis

app = flask.Flask(__name__)
store = redis.Redis(host=os.environ.get("REDIS_HOST", "redis"), port=6379, socket_timeout=5)


@app.route("/")
def hello():
    hits = store.incr("hits")
    return f"Hello Container World! I have been seen {hits} times.\n", {"Content-Type": "text/plain"}


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000)
