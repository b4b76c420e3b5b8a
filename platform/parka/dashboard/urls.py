"""Addresses of the dashboard: ``/`` and everything under ``/t/<team>/``."""

from __future__ import annotations

from django.urls import include, path, register_converter

from parka.dashboard.views import (
    agents,
    artifacts,
    compare,
    datasets,
    experiments,
    home,
    models,
    prices,
    runs,
    scorecards,
    settings,
    stream,
)


class Numbered:
    """A number with the letter of its kind: ``E-45``, ``R-118``."""

    letter = ""

    def to_python(self, value: str) -> int:
        return int(value.removeprefix(f"{self.letter}-"))

    def to_url(self, value: int | str) -> str:
        return value if isinstance(value, str) else f"{self.letter}-{value}"


class ExperimentNumber(Numbered):
    """``E-45``."""

    letter, regex = "E", r"E-\d{1,8}"


class RunNumber(Numbered):
    """``R-118``."""

    letter, regex = "R", r"R-\d{1,8}"


register_converter(ExperimentNumber, "experiment")
register_converter(RunNumber, "run")

team_urls = [
    path("", home.home, name="home"),
    path("queue/", home.queue_badge, name="queue"),
    path("models/", models.model_list, name="models"),
    path("models/new/", models.model_new, name="model-new"),
    path("models/<slug:slug>/", models.model_detail, name="model"),
    path("models/<slug:slug>/<int:number>/", models.version_detail, name="version"),
    path("datasets/", datasets.dataset_list, name="datasets"),
    path("datasets/new/", datasets.dataset_new, name="dataset-new"),
    path("datasets/<slug:slug>/", datasets.dataset_detail, name="dataset"),
    path("artifacts/<str:public_id>/", artifacts.download, name="artifact"),
    path("samples/<str:sha256>/", artifacts.samples, name="samples"),
    path("experiments/", experiments.experiment_list, name="experiments"),
    path("experiments/new/", experiments.experiment_new, name="experiment-new"),
    path("experiments/new/estimate/", experiments.experiment_estimate, name="experiment-estimate"),
    path("experiments/<experiment:number>/", experiments.experiment_detail, name="experiment"),
    path("runs/", runs.run_list, name="runs"),
    path("runs/<run:number>/", runs.run_detail, name="run"),
    path("runs/<run:number>/events", stream.run_events, name="run-events"),
    path("runs/<run:number>/live/", runs.run_live, name="run-live"),
    path("runs/<run:number>/cancel/", runs.run_cancel, name="run-cancel"),
    path("runs/<run:number>/trials/", runs.run_trials, name="run-trials"),
    path("runs/<run:number>/trials/<int:index>/", runs.trial_detail, name="trial"),
    path("runs/<run:number>/trials/<int:index>/recipe.json", runs.trial_recipe, name="run-recipe"),
    path("runs/<run:number>/pareto/", runs.run_pareto, name="run-pareto"),
    path("runs/<run:number>/environment/", runs.run_environment, name="run-environment"),
    path("runs/<run:number>/log/", runs.run_log, name="run-log"),
    path("runs/<run:number>/scorecard.json", scorecards.scorecard_json, name="run-json"),
    path("runs/<run:number>/scorecard.csv", scorecards.scorecard_csv, name="run-csv"),
    path("compare/", compare.compare, name="compare"),
    path("compare/agents/", compare.compare_agents, name="compare-agents"),
    path("agents/", agents.agent_list, name="agents"),
    path("agents/new/", agents.agent_new, name="agent-new"),
    path("agents/<slug:slug>/", agents.agent_detail, name="agent"),
    path("agents/<slug:slug>/waiting/", agents.agent_waiting, name="agent-waiting"),
    path("agents/<slug:slug>/register/", agents.agent_register, name="agent-register"),
    path("agents/<slug:slug>/drain/", agents.agent_drain, name="agent-drain"),
    path("agents/<slug:slug>/resume/", agents.agent_resume, name="agent-resume"),
    path("agents/<slug:slug>/revoke/", agents.agent_revoke, name="agent-revoke"),
    path("costs/prices/", prices.prices, name="prices"),
    path("costs/prices/edit/", prices.prices_edit, name="prices-edit"),
    path("settings/", settings.settings_home, name="settings"),
    path("settings/members/", settings.members, name="settings-members"),
    path("settings/members/add/", settings.member_add, name="member-add"),
    path("settings/members/<str:user_id>/role/", settings.member_role, name="member-role"),
    path("settings/members/<str:user_id>/remove/", settings.member_remove, name="member-remove"),
    path("settings/tokens/", settings.tokens, name="settings-tokens"),
    path("settings/tokens/<str:public_id>/revoke/", settings.token_revoke, name="token-revoke"),
    path("settings/team/", settings.team, name="settings-team"),
    path("settings/audit/", settings.audit, name="settings-audit"),
]

urlpatterns = [
    path("", home.entrance, name="entrance"),
    path("t/<slug:team>/", include(team_urls)),
]
