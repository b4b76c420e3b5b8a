"""The platform: upload, plan, dispatch, score, compare, decide."""
