"""Who else would do the work, each set up as its own documentation recommends for it: each module says how, and why."""

from benchmarks.options import Options
from benchmarks.peers.bentoml_serve import BENTOML, BentoMLServe
from benchmarks.peers.celery_redis import CELERY, CELERY_RESULTS, CeleryRedis
from benchmarks.peers.dask_distributed import DaskDistributed
from benchmarks.peers.dramatiq_redis import DramatiqRedis
from benchmarks.peers.huey_sqlite import HueySqlite
from benchmarks.peers.peer import Installed, Peer, Server
from benchmarks.peers.pool import CHUNKED_POOL, POOL, Pool
from benchmarks.peers.ray_actor_pool import RayActorPool
from benchmarks.peers.ray_data import RAY_DATA, RayData
from benchmarks.peers.ray_serve import RAY_SERVE, RAY_SERVE_FAST, RayServe
from benchmarks.peers.starlette_uvicorn import FAST, PLAIN, StarletteUvicorn

__all__ = [
    "BENTOML",
    "CELERY",
    "CELERY_RESULTS",
    "CHUNKED_POOL",
    "FAST",
    "PLAIN",
    "POOL",
    "RAY_DATA",
    "RAY_SERVE",
    "RAY_SERVE_FAST",
    "Peer",
    "Server",
    "all_peers",
    "chosen_peers",
    "chosen_peers_on",
    "chosen_servers",
]


def all_peers() -> dict[str, Installed]:
    """Give everybody by the name that `--peers` has for them."""
    return {**batch_peers(), **peers_on_ray(None), **servers()}


def batch_peers() -> dict[str, Peer]:
    """Give those that run a function over batches."""
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


def peers_on_ray(address: str | None) -> dict[str, Peer]:
    """Give those that run a function over batches on a Ray cluster."""
    return {
        "ray": RayData(address),
        "rayactors": RayActorPool(address, chunk_size=1),
        "rayactors16": RayActorPool(address, chunk_size=16),
    }


def servers() -> dict[str, Server]:
    """Give those that answer requests."""
    return {
        "starlette": StarletteUvicorn(),
        "starlettefast": StarletteUvicorn(is_fast=True),
        "rayserve": RayServe(),
        "rayservefast": RayServe(is_fast=True),
        "bentoml": BentoMLServe(),
    }


def chosen_peers(options: Options) -> dict[str, Peer]:
    """Give those for batches that were asked for and can run here."""
    return {key: peer for key, peer in batch_peers().items() if options.takes(key) and not peer.missing()}


def chosen_peers_on(address: str, options: Options) -> dict[str, Peer]:
    """Give those for the batches of a cluster that were asked for and can run here."""
    return {key: peer for key, peer in peers_on_ray(address).items() if options.takes(key) and not peer.missing()}


def chosen_servers(options: Options) -> dict[str, Server]:
    """Give those for requests that were asked for and can run here."""
    return {key: server for key, server in servers().items() if options.takes(key) and not server.missing()}
