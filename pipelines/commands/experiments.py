"""The command `experiments`: the experiments of a study of `kind: pruning`, and their settings."""

from secateur.pipelines.commands.shell import AsJson, out, say, table_of, tell


def experiments(as_json: AsJson = False) -> None:
    """List the experiments that prune other units than samples, with their arms and settings."""
    from secateur.trainers.experiments.contract import experiments as every

    listed = [
        {
            "experiment": name,
            "unit": kind.unit,
            "arms": list(kind.arms),
            "references": list(kind.references),
            "settings": list(kind.settings.model_fields),
            "claim": kind.claim,
            "paper": kind.paper,
        }
        for name, kind in sorted(every().items())
    ]

    def show() -> None:
        names = ("experiment", "unit", "arms", "settings")
        cells = ([one[name] for name in names] for one in listed)
        out.print(table_of(names, [[", ".join(c) if isinstance(c, list) else c for c in line] for line in cells]))
        for one in listed:
            say(f"{one['experiment']}: {one['claim']} ({one['paper']})")

    tell({"experiments": listed}, as_json, show)
