"""What `dragonfly settings` prints: the keys of all settings files, for the terminal or as docs/settings.md."""

from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.manager.settings import ManagerSettings
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.settings.dynconfig import DaemonDynconfig, SchedulerDynconfig
from dragonfly.settings.reference import markdown, plain
from dragonfly.settings.section import Section

TREES: dict[str, type[Section]] = {
    "manager": ManagerSettings,
    "scheduler": SchedulerSettings,
    "dfdaemon": DaemonSettings,
}

_INTRODUCTION = """# Settings

<!-- Made by `dragonfly settings --markdown`; change the docstrings of the settings models instead. -->

Every service reads one YAML file: `/etc/dragonfly/manager.yaml`, `scheduler.yaml` or `dfdaemon.yaml`; `--config` names
another. A file that is not there means the defaults below. `--set KEY=VALUE` sets a single key over the file, with the
dotted keys of these tables: `dfdaemon --set download.pieceTimeout=30s`.

Durations carry units (`500ms`, `30s`, `1h 5m`), and so do sizes (`512KiB` = 512 × 1024 bytes, `50GB` = 50 × 10⁹ bytes).
Keys are the reference's, so its files load. A key that is not in these tables is an error that names it. A key with no
effect yet is accepted, and a warning at start names it.
"""


def page() -> str:
    """docs/settings.md."""
    tables = [markdown(f"{name}.yaml", tree) for name, tree in TREES.items()]
    tables.append(markdown("dynconfig.yaml of a scheduler without a manager", SchedulerDynconfig))
    tables.append(markdown("dynconfig.yaml of a dfdaemon without a manager", DaemonDynconfig))
    return "\n".join([_INTRODUCTION, *tables])


def listing(service: str | None) -> str:
    """The keys of one service, or of all."""
    return (
        "\n\n".join(f"{name}.yaml\n\n{plain(tree)}" for name, tree in TREES.items() if service in (None, name)) + "\n"
    )
