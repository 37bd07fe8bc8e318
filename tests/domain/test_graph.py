from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import Cyclic
from app.domain.graph import DependencyGraph, Edge, describe_cycle


def edge(source: str, target: str, *, explicit: bool = True) -> Edge:
    return Edge(source, target, explicit)


def diamond() -> DependencyGraph:
    return DependencyGraph("dcba", [edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d")])


@st.composite
def graphs(draw: st.DrawFn) -> DependencyGraph:
    nodes = [f"n{number}" for number in range(draw(st.integers(1, 9)))]
    pairs = draw(st.lists(st.tuples(st.sampled_from(nodes), st.sampled_from(nodes)), max_size=20))
    return DependencyGraph(nodes, [edge(*pair) for pair in pairs])


def is_cyclic(graph: DependencyGraph) -> bool:
    return any(key in graph.ancestors(key) for key in graph.nodes)


def test_diamond_is_ordered_by_need_and_then_as_given() -> None:
    graph = diamond()
    assert graph.order() == ("a", "c", "b", "d")
    assert graph.waves() == (("a",), ("c", "b"), ("d",))


def test_neighbours_and_closures() -> None:
    graph = diamond()
    assert graph.needs("d") == {"b", "c"}
    assert graph.dependents("a") == {"b", "c"}
    assert graph.ancestors("d") == {"a", "b", "c"}
    assert graph.descendants("b") == {"d"}


def test_reversed_orders_deletion() -> None:
    assert diamond().reversed().order() == ("d", "c", "b", "a")


def test_critical_path_is_the_longest_in_time_not_in_nodes() -> None:
    graph = DependencyGraph("abcd", [edge("a", "b"), edge("b", "c")])
    assert graph.critical_path({"a": 1, "b": 1, "c": 1, "d": 10}) == ("d",)
    assert graph.critical_path({"a": 1, "b": 1, "c": 1, "d": 2}) == ("a", "b", "c")
    assert DependencyGraph([], []).critical_path({}) == ()


def test_redundant_edges_are_the_declared_ones_that_a_reference_repeats() -> None:
    graph = DependencyGraph("abc", [edge("a", "b"), edge("a", "b", explicit=False), edge("b", "c")])
    assert graph.redundant_edges() == (edge("a", "b"),)


def test_every_cycle_is_named_with_path_and_expression() -> None:
    graph = DependencyGraph(
        ["a", "b", "c", "d", "e"],
        [
            Edge("b", "a", explicit=False, path="a.properties.x", expression="${resources.b.id}"),
            Edge("a", "b", explicit=True, path="b.dependsOn"),
            edge("c", "c"),
            edge("a", "e"),
        ],
    )
    with pytest.raises(Cyclic) as caught:
        graph.order()
    assert len(caught.value.cycles) == 2
    assert caught.value.message == ("c needs c; a needs b (a.properties.x: ${resources.b.id}), b needs a (b.dependsOn)")


def test_the_shortest_cycle_of_a_component_is_reported() -> None:
    ring = [edge(a, b) for a, b in ("ab", "bc", "cd", "da", "db")]
    (cycle,) = DependencyGraph("abcd", ring).cycles()
    assert {one.source for one in cycle} == {"b", "c", "d"}


def test_an_edge_out_of_the_graph_is_a_bug() -> None:
    with pytest.raises(ValueError, match="leaves the graph"):
        DependencyGraph("a", [edge("a", "b")])


@given(graphs())
def test_order_respects_every_edge_or_there_is_a_cycle(graph: DependencyGraph) -> None:
    cycles = graph.cycles()
    assert bool(cycles) == is_cyclic(graph)
    for cycle in cycles:
        assert describe_cycle(cycle)
        for one, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            assert one.target == following.source
    if cycles:
        with pytest.raises(Cyclic):
            graph.check()
        return
    position = {key: number for number, key in enumerate(graph.order())}
    wave = {key: number for number, keys in enumerate(graph.waves()) for key in keys}
    assert set(position) == set(wave) == set(graph.nodes)
    for one in graph.edges:
        assert position[one.source] < position[one.target]
        assert wave[one.source] < wave[one.target]


@given(graphs())
@settings(max_examples=50)
def test_cycles_are_as_short_as_a_search_from_every_node_finds(graph: DependencyGraph) -> None:
    for cycle in graph.cycles():
        if len(cycle) == 1:
            continue
        component = {
            key for key in graph.nodes if key in graph.ancestors(cycle[0].source) & graph.descendants(cycle[0].source)
        } | {cycle[0].source}
        assert len(cycle) == min(shortest_through(graph, key) for key in component)


def shortest_through(graph: DependencyGraph, start: str) -> int:
    """Length of a shortest cycle of two or more nodes through `start`, level by level."""
    level = {key for key in graph.dependents(start) if key != start}
    for length in range(2, len(graph.nodes) + 1):
        if any(start in graph.dependents(key) for key in level):
            return length
        level = {after for key in level for after in graph.dependents(key)} - {start}
    return len(graph.nodes) + 1


@pytest.mark.parametrize("closed", [False, True])
def test_five_thousand_nodes_in_a_row_take_no_time(closed: bool) -> None:
    nodes = [str(number) for number in range(5000)]
    edges = [edge(a, b) for a, b in pairwise(nodes)]
    if closed:
        edges.append(edge(nodes[-1], nodes[0]))
    began = time.perf_counter()
    graph = DependencyGraph(nodes, edges)
    if closed:
        assert [len(cycle) for cycle in graph.cycles()] == [5000]
    else:
        assert len(graph.waves()) == 5000
        assert len(graph.critical_path({})) == 5000
    assert time.perf_counter() - began < 1
