"""Whether the model hub can be asked at all, so that a machine without it gets its answer at once."""

REACH_SECONDS = 5.0  # one request; the hub's client would retry for minutes


def hub_is_reachable() -> bool:
    """Whether the hub answers one request of its own client, which knows proxies and certificates."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        answer = get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except Exception:  # the client's exception types differ between versions, and each means no
        return False
    return answer.status_code < 400
