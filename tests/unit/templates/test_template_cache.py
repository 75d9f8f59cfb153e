"""The cache of compiled templates."""

from sluice.templates.template import TemplateCache, compile_template


def cache_with(sources, max_bytes):
    cache = TemplateCache(max_bytes)
    for source in sources:
        cache.put(source, True, compile_template(source, html=True))
    return cache


SIZE = compile_template("{{a}}", html=True).size


def test_a_template_is_found_by_source_and_escaping():
    cache = cache_with(["{{a}}"], 10 * SIZE)

    assert cache.get("{{a}}", True) is not None
    assert cache.get("{{a}}", False) is None
    assert cache.get("{{b}}", True) is None


def test_the_one_unused_for_longest_makes_room():
    cache = cache_with(["{{a}}", "{{b}}"], 2 * SIZE)
    assert cache.get("{{a}}", True)
    cache.put("{{c}}", True, compile_template("{{c}}", html=True))

    assert [cache.get(source, True) is not None for source in ("{{a}}", "{{b}}", "{{c}}")] == [True, False, True]


def test_a_template_larger_than_the_cache_is_not_kept():
    cache = cache_with(["{{a}}" * 100, "{{a}}"], 2 * SIZE)

    assert cache.get("{{a}}" * 100, True) is None
    assert cache.get("{{a}}", True) is not None


def test_many_small_tags_count_as_the_memory_they_take():
    """A node takes about a hundred times the memory of its source."""
    assert compile_template("{{a}}" * 1000, html=True).size > 1000 * 600


def test_the_same_template_counts_once():
    cache = cache_with(["{{a}}"] * 5 + ["{{b}}"], 2 * SIZE)

    assert cache.get("{{a}}", True) is not None
    assert cache.get("{{b}}", True) is not None
