"""Deployable bundles: the chosen model with its recipe, its numbers and how to load it."""

from optimizer.export.bundle import BUNDLE_ROLE, BundleContent, bundle_trial, write_bundle

__all__ = ["BUNDLE_ROLE", "BundleContent", "bundle_trial", "write_bundle"]
