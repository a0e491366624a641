import itertools
import re

import pytest

from dragonfly.core.model.ids import TaskKey, content_task_id, public_task
from dragonfly.core.model.principal import PUBLIC, PUBLIC_SCOPE, Principal, TenantScope
from dragonfly.errors import InvalidIdentifier

ID = content_task_id("content")


def test_public_task_keeps_its_id_on_the_wire():
    assert TaskKey(PUBLIC_SCOPE, ID).wire_id == ID
    assert public_task(ID) == TaskKey(PUBLIC_SCOPE, ID)
    assert PUBLIC.scope == PUBLIC_SCOPE


def test_tenants_do_not_share_a_wire_id():
    """Attack 31."""
    ids = {TaskKey(Principal(tenant).scope, ID).wire_id for tenant in ("", "a", "b", "A", "tenant")}
    assert len(ids) == 5
    assert all(re.fullmatch("[0-9a-f]{64}", wire_id) for wire_id in ids)


def test_application_does_not_separate_tasks():
    assert Principal("a", "one").scope == Principal("a", "two").scope


def test_wire_ids_do_not_collide_where_texts_run_together():
    """Attack 31."""
    keys = [
        TaskKey(TenantScope("ab"), "c" + ID[1:]),
        TaskKey(TenantScope("abc"), ID[1:]),
        TaskKey(TenantScope("a"), "bc" + ID[1:]),
    ]
    for one, other in itertools.combinations(keys, 2):
        assert one.wire_id != other.wire_id


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "../" * 21 + "a", "٣" * 64]
)
def test_text_that_is_no_task_id_is_refused(text):
    with pytest.raises(InvalidIdentifier):
        public_task(text)
