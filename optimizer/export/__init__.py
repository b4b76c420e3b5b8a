"""Deployable bundles: the chosen model with recipe, numbers, samples and servers; and their replay on another machine."""

from optimizer.export.bundle import BUNDLE_ROLE, BundleContent, write_bundle
from optimizer.export.trial import bundle_trial

__all__ = ["BUNDLE_ROLE", "BundleContent", "bundle_trial", "write_bundle"]
