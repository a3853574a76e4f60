"""How libraries are told of the server."""

from __future__ import annotations

BUCKET = "bucket"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
REGION = "us-east-1"


def options(endpoint: str) -> dict[str, str]:
    """Storage options of Rust's `object_store`, which SLAF, Lance and others take."""
    return {"aws_endpoint": endpoint, "aws_region": REGION, "allow_http": "true", **KEYS}


def environment(endpoint: str) -> dict[str, str]:
    """The variables by which libraries without options find a server."""
    return {
        "AWS_ENDPOINT": endpoint,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        **{name.upper(): value for name, value in KEYS.items()},
    }
