"""The files behind a scorecard's answer."""

from __future__ import annotations

from parka.experiments.models import Run
from parka.registry.models import Artifact, ArtifactRole
from parka.scorecards.models import Scorecard


def winning_artifacts(run: Run, scorecard: Scorecard) -> list[Artifact]:
    """The optimised files of the judged trial; the upload itself when the original is kept or only settings changed."""
    trial = int(scorecard.body.get("trial") or 0)
    roles = [ArtifactRole.BUNDLE, ArtifactRole.OPTIMIZED]
    made = Artifact.objects.filter(trial_stages__trial__run=run, trial_stages__trial__index=trial, role__in=roles, missing=False)
    return list(made.distinct().order_by("id")) or [run.experiment.version.artifact]
