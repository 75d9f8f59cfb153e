"""Templates that are made to cost much end at a limit. The cost is counted, so that no test depends on time."""

import pytest

from sluice.templates.limits import SMS_LIMITS, Limits, TemplateDataError, TemplateLimitError, TemplateWorkError
from sluice.templates.template import compile_template

LONG = "<" * 200_000
LIST = list(range(400))
LOOPS = "{{#each l}}{{#each ../l}}%s{{/each}}{{/each}}"

ENDLESS = {
    "three loops": ("{{#each l}}{{#each ../l}}{{#each ../../l}}{{.}}{{/each}}{{/each}}{{/each}}", {}),
    "empty loops": (LOOPS % "{{#each ../../l}}{{/each}}", {}),
    "sections": (LOOPS % "{{#../../l}}{{/../../l}}", {}),
    "empty loops over a list of lists": ("{{#each l}}{{#each this}}{{/each}}{{/each}}", {"l": [LIST] * 400}),
    "a helper on long text": (LOOPS % "{{#if (uppercase ../../long)}}{{/if}}", {"long": LONG}),
    "a helper on a long list": (LOOPS % "{{#if (lowercase ../../many)}}{{/if}}", {"many": [[0]] * 50_000}),
    "the comparison of long texts": (LOOPS % "{{#ifEquals ../../long ../../long}}{{/ifEquals}}", {"long": LONG}),
    "the comparison of contexts": (LOOPS % "{{#with ../../long}}{{/with}}", {"long": LONG}),
    "a long date pattern": (LOOPS % "{{#if (formatDate 0 ../../p)}}{{/if}}", {"p": "MM" * 50_000}),
    "a long name": (LOOPS % "{{lookup ../../o ../../long}}", {"o": {"a": 1}, "long": LONG}),
    "a long list as a name": (LOOPS % "{{lookup ../../o ../../many}}", {"o": {"a": 1}, "many": LIST * 100}),
    "empty branches": (LOOPS % ("{{#if ../../x}}{{/if}}" * 50), {}),
    "helpers on empty text": (LOOPS % ("{{uppercase ''}}" * 50), {}),
}
LARGE = {
    "a long text again and again": (LOOPS % "{{{../../long}}}", {"long": LONG}),
    "a long text escaped": ("{{long}}{{long}}", {"long": LONG}),
    "a list of long texts": ("{{many}}", {"many": [LONG] * 10}),
    "a long constant": ("{{#each l}}" + "x" * 100_000 + "{{/each}}", {}),
}


def work_needed(source, variables):
    """The smallest work limit that a rendering stays within."""
    template, low, high = compile_template(source, html=True), 0, 100_000
    template.render(variables, Limits(work=high))
    while low < high:
        middle = (low + high) // 2
        try:
            template.render(variables, Limits(work=middle))
            high = middle
        except TemplateWorkError:
            low = middle + 1
    return low


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_work_is_stopped(name):
    source, variables = ENDLESS[name]
    template = compile_template(source, html=True)

    with pytest.raises(TemplateWorkError, match="more than 100000 work units"):
        template.render({"l": LIST, **variables})


@pytest.mark.parametrize("name", LARGE)
def test_large_output_is_stopped(name):
    source, variables = LARGE[name]
    template = compile_template(source, html=True)

    with pytest.raises(TemplateLimitError, match="more than 1048576 characters") as raised:
        template.render({"l": LIST, **variables})
    assert not isinstance(raised.value, TemplateWorkError)


def test_the_output_of_an_sms_is_shorter():
    template = compile_template("{{t}}", html=False)

    assert template.render({"t": "x" * 10_000}, SMS_LIMITS) == "x" * 10_000
    with pytest.raises(TemplateLimitError, match="more than 10000 characters"):
        template.render({"t": "x" * 10_001}, SMS_LIMITS)


@pytest.mark.parametrize(
    ("source", "variables", "units"),
    [
        ("", {}, 0),
        ("text", {}, 1),
        ("{{! comment }}", {}, 0),
        ("{{a}}{{b.c}}", {}, 2),
        ("{{default a 'x'}}", {}, 3),
        ("{{uppercase (default a 'x')}}", {}, 4),
        ("{{#if a}}{{a}}{{/if}}", {}, 2),
        ("{{#if a}}{{a}}{{/if}}", {"a": 1}, 3),
        ("{{#each l}}{{.}}{{/each}}", {"l": [1] * 10}, 2 + 10 * 2),
        ("{{#each l}}{{/each}}", {"l": [1] * 10}, 2 + 10),
        ("{{t}}", {"t": "x" * 6_400}, 1 + 100),
        ("{{default t 1}}", {"t": "x" * 6_400}, 3 + 100 + 100),
        ("{{#ifEquals t t}}{{/ifEquals}}", {"t": "x" * 6_400}, 3 + 200),
        ("{{#with t}}{{/with}}", {"t": "x" * 6_400}, 2 + 100),
        ("{{l}}", {"l": [[], [1, [2]], 3]}, 1 + 6),
        ("{{formatDate 0 p}}", {"p": "-" * 64}, 3 + 1 + 16 + 1),
    ],
)
def test_the_cost_is_counted(source, variables, units):
    assert work_needed(source, variables) == units


def test_a_number_of_any_size_prints():
    template = compile_template("{{n}}", html=True)

    assert template.render({"n": 10**5_000}) == "Infinity"
    assert template.render({"n": -(10**5_000)}) == "-Infinity"


def test_a_deep_list_prints():
    value = []
    for _ in range(100_000):
        value = [value]
    assert compile_template("{{v}}", html=True).render({"v": [value, 1]}, Limits(work=300_000)) == ",1"
    while value:  # Python frees a deep list by recursion
        value = value[0]


@pytest.mark.parametrize("value", [object(), b"x", (1,), {1}, str])
def test_what_is_not_json_is_refused(value):
    for source in ("{{v}}", "{{uppercase v}}", "{{l}}"):
        with pytest.raises(TemplateDataError, match="not a JSON value"):
            compile_template(source, html=True).render({"v": value, "l": [value]})
