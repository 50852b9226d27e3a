"""Who else would do the work, each set up as its own documentation recommends for it: each module says how, and why."""

from benchmarks.options import Options
from benchmarks.peers.celery_redis import CELERY, CELERY_RESULTS, CeleryRedis
from benchmarks.peers.dask_distributed import DaskDistributed
from benchmarks.peers.dramatiq_redis import DramatiqRedis
from benchmarks.peers.huey_sqlite import HueySqlite
from benchmarks.peers.peer import Peer
from benchmarks.peers.pool import CHUNKED_POOL, POOL, Pool
from benchmarks.peers.ray_data import RayData

__all__ = ["CELERY", "CELERY_RESULTS", "CHUNKED_POOL", "POOL", "Peer", "all_peers", "chosen_peers"]


def all_peers() -> dict[str, Peer]:
    """Give every peer by the name that `--peers` has for it."""
    return {
        "pool": Pool(chunk_size=1),
        "pool16": Pool(chunk_size=16),
        "celery": CeleryRedis(),
        "celeryget": CeleryRedis(has_results=True),
        "dramatiq": DramatiqRedis(),
        "huey": HueySqlite(),
        "ray": RayData(),
        "dask": DaskDistributed(),
    }


def chosen_peers(options: Options) -> dict[str, Peer]:
    """Give those that were asked for and can run here."""
    return {key: peer for key, peer in all_peers().items() if options.takes(key) and not peer.missing()}
