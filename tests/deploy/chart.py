"""The Helm chart and the sets of values that it is checked with."""

from tests.repository.files import ROOT

CHART = ROOT / "deploy/helm/sluice"
VALUE_SETS = {"default": (), **{file.stem.removesuffix("-values"): ("-f", file) for file in CHART.glob("ci/*.yaml")}}
