"""The suites that every pass and every backend keeps, ours and registered ones: ``python -m pytest --pyargs optimizer.conformance``.

They need pytest; ``-k NAME`` runs those of one pass or backend.
"""
