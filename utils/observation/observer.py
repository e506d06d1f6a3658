"""The observer: what the policies see and may do, features and action masks in one call."""

import numpy as np
from numpy.typing import NDArray

from utils.observation.feature_sets import FeatureSet
from utils.observation.kept_plans import THOROUGH, KeptPlan, KeptPlans, PlanAhead, Rounds
from utils.observation.more_features import checked_features
from utils.observation.neighbour_rows import NeighbourRows, assemble_level
from utils.observation.neighbours import NeighbourSearch, find_neighbours
from utils.observation.plan_features import fill_plan_features
from utils.observation.route_features import fill_route_features
from utils.observation.stop_features import fill_stop_features
from utils.observation.timetable_features import N_TIMETABLE_FEATURES, fill_timetable_features, shares_of_trains
from utils.observation.tree_features import FEATURES_PER_NODE, normalize_tree
from utils.observation.tree_observation import (
    N_NODE_VALUES,
    TreeScratch,
    count_nodes,
    explore_tree,
    mark_waiting_trains,
)
from utils.rules.route_search import RouteSearch
from utils.safe_moves.safe_moves import SafeMoves
from utils.simulator.action_mask import DEFAULT_DECISION_POINTS, fill_masks, is_choice, stops_everywhere
from utils.simulator.rail_grid import DO_NOTHING, N_ACTIONS, STOP_MOVING
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import StateArrays, mark_trains, unmark_trains
from utils.system.compiled import Arrays, compiled


@compiled
def _fill_observes(deciding_only: bool, mask: np.ndarray, observes: np.ndarray) -> None:
    for handle in range(observes.shape[0]):
        observes[handle] = not deciding_only or is_choice(mask[handle])


@compiled
def fill_observations(
    max_depth: int,
    radius: int,
    with_timetable: bool,
    elapsed_steps: int,
    max_episode_steps: int,
    state_arrays: Arrays,
    scratch_arrays: Arrays,
    nodes: np.ndarray,
    is_observed: np.ndarray,
    features: np.ndarray,
) -> None:
    arrays, scratch = StateArrays(*state_arrays), TreeScratch(*scratch_arrays)
    width, constants, dynamic = arrays.grid.shape[1], arrays.constants, arrays.dynamic
    mark_trains(arrays.occupant, arrays.level_free, dynamic)
    mark_waiting_trains(scratch.waiting, width, constants, dynamic, 1)
    n_tree_features = nodes.shape[0] * FEATURES_PER_NODE
    on_map, arrived = shares_of_trains(dynamic)
    for handle in range(dynamic.shape[1]):
        if not is_observed[handle]:
            continue
        explore_tree(handle, max_depth, arrays, scratch, nodes)
        normalize_tree(nodes, radius, features[handle, :n_tree_features])
        if with_timetable:
            fill_timetable_features(
                handle,
                elapsed_steps,
                max_episode_steps,
                on_map,
                arrived,
                arrays,
                features[handle, n_tree_features : n_tree_features + N_TIMETABLE_FEATURES],
            )
    mark_waiting_trains(scratch.waiting, width, constants, dynamic, -1)
    unmark_trains(arrays.occupant, arrays.level_free, dynamic)


class Observer:
    """Observations and action masks of all trains in one compiled call, with memory that is used again.

    One observer serves levels of any size, one after the other; it is not to be shared between threads.

    Args:
        feature_set: which features.
        safe_moves: whether moves that could end in a deadlock are taken out of the action mask, see ``safe_moves``.
            Where a plan is kept its moves are left in: as long as all keep its order, all can leave the map.
        action_mask, decision_points: the options of these names, see ``action_mask.fill_masks``.
        plan_rounds: how long plans are searched for, where there are any.

    Attributes:
        plan_ahead: what plans levels for it when they are made; None where it needs no plans in each level.
        rows: the parts of the last observation, in memory that is used again; None where no neighbours are seen.

    Raises:
        ValueError: ``decision_points`` is not known.
    """

    def __init__(
        self,
        feature_set: FeatureSet,
        *,
        safe_moves: bool,
        action_mask: bool = True,
        decision_points: str = DEFAULT_DECISION_POINTS,
        plan_rounds: Rounds = THOROUGH,
    ) -> None:
        self.feature_set = feature_set
        self._all_actions = not action_mask
        self._stop_everywhere = stops_everywhere(decision_points)
        self._n_features = feature_set.n_features
        # the feature set counts them anew each time that it is asked
        self._of_routes, self._of_stops = feature_set.route_features, feature_set.stop_features
        self._of_plan = feature_set.plan_features
        self._nodes = np.empty((count_nodes(feature_set.max_depth), N_NODE_VALUES), dtype=np.float64)
        self._size = (0, 0)  # of the level that there is memory for: cells, and trains where they see neighbours
        self._scratch: Arrays = ()
        self._routes: Arrays = ()
        self._neighbours: Arrays = ()
        self._safe_moves = SafeMoves(safe_moves)
        self._plans = KeptPlans(plan_rounds)
        self.plan_ahead = PlanAhead(plan_rounds) if feature_set.with_plan else None
        self.rows: NeighbourRows | None = None

    def observe(
        self,
        state: RailState,
        features: NDArray[np.float32] | None = None,
        mask: NDArray[np.bool_] | None = None,
        deciding_only: bool = False,
        keep_plan: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features, float32 [trains, n_features], and action mask, bool [trains, 5].

        Both are new arrays, unless C-contiguous arrays of those shapes are given to be filled. With ``deciding_only``
        the kit's features of trains without a choice are left as they are, which in most steps saves most of the work.
        With ``keep_plan`` a plan is kept for :meth:`planned_actions`, as it is for features that need one.

        Raises:
            ValueError: the arrays have other shapes.
            FeaturesError: features of the user's own cannot be used.
        """
        if features is None:
            features = np.empty((state.n_trains, self._n_features), dtype=np.float32)
        if mask is None:
            mask = np.empty((state.n_trains, N_ACTIONS), dtype=np.bool_)
        if features.shape != (state.n_trains, self._n_features) or mask.shape != (state.n_trains, N_ACTIONS):
            raise ValueError(
                f"features {features.shape} and mask {mask.shape} do not fit {state.n_trains} trains "
                f"with {self._n_features} features and {N_ACTIONS} actions"
            )
        self._fit(state)
        fill_masks(self._all_actions, self._stop_everywhere, state.grid, state.constants, state.dynamic, mask)
        plan = self._plans.keep_up(state) if keep_plan or self.feature_set.with_plan else None
        possible = mask.copy() if plan else mask
        safe = None
        if self._safe_moves.enabled or self.feature_set.with_routes:
            safe = self._safe_moves.restrict(state, mask)
        if plan and self._safe_moves.enabled:
            plan.allow_moves(state, possible, mask, others_are_safe=self._safe_moves.all_can_leave(state))
        observes = np.empty(state.n_trains, dtype=np.bool_)
        _fill_observes(deciding_only, mask, observes)
        if rows := self.rows:
            self._find_neighbours(state, rows, observes)
            self._fill_own(state, safe, plan, rows.is_observed, rows.own)
            assemble_level(observes, rows.own, rows.neighbours, rows.relations, features)
        else:
            self._fill_own(state, safe, plan, observes, features)
        return features, mask

    def _fit(self, state: RailState) -> None:
        """Makes the memory anew where a level is of another size than the one before."""
        of, size = self.feature_set, (state.grid.size, state.n_trains if self.feature_set.n_neighbours else 0)
        if size == self._size:
            return
        self._size = size
        self._scratch = tuple(TreeScratch.for_state(state, of.max_depth))
        if of.with_routes:
            self._routes = tuple(RouteSearch.for_state(state))
        if of.n_neighbours:
            self._neighbours = tuple(NeighbourSearch.for_state(state))
            self.rows = NeighbourRows.for_state(state, of.n_own_features, of.n_neighbours)

    def _find_neighbours(self, state: RailState, rows: NeighbourRows, observes: NDArray[np.bool_]) -> None:
        """Fills ``rows``, but for what each train sees of itself."""
        rows.is_observed[:] = observes
        find_neighbours(
            state.elapsed_steps,
            state.arrays,
            self._neighbours,
            observes,
            rows.neighbours,
            rows.relations,
            rows.is_observed,
        )

    def _fill_own(
        self,
        state: RailState,
        safe: NDArray[np.int8] | None,
        plan: KeptPlan | None,
        is_observed: NDArray[np.bool_],
        features: NDArray[np.float32],
    ) -> None:
        """Fills ``features``, float32 [trains, n_own_features], with what the trains see of themselves."""
        of = self.feature_set
        fill_observations(
            of.max_depth,
            of.radius,
            of.with_timetable,
            state.elapsed_steps,
            state.max_episode_steps,
            state.arrays,
            self._scratch,
            self._nodes,
            is_observed,
            features,
        )
        if self._of_routes and safe is not None:
            self.fill_routes(state, safe, is_observed, features[:, self._of_routes])
        if self._of_stops:
            fill_stop_features(
                state.elapsed_steps, state.max_episode_steps, state.arrays, is_observed, features[:, self._of_stops]
            )
        if self._of_plan:
            self.fill_plan(state, plan, is_observed, features[:, self._of_plan])
        if more := of.more:
            features[:, -more.n_features :] = checked_features(more, state)

    def fill_routes(
        self, state: RailState, safe: NDArray[np.int8], is_observed: NDArray[np.bool_], features: NDArray[np.float32]
    ) -> None:
        """Fills ``features``, float32 [trains, route features], with ``safe`` from ``SafeMoves.restrict``."""
        self._fit(state)
        fill_route_features(
            state.elapsed_steps, state.max_episode_steps, state.arrays, safe, is_observed, self._routes, features
        )

    def fill_plan(
        self, state: RailState, kept: KeptPlan | None, is_observed: NDArray[np.bool_], features: NDArray[np.float32]
    ) -> None:
        """Fills ``features``, float32 [trains, plan features]; zeros where there is no plan."""
        if kept is None:
            features[:] = 0.0
            return
        fill_plan_features(
            state.elapsed_steps,
            state.max_episode_steps,
            state.arrays,
            kept.plan.cells,
            kept.plan.tables,
            kept.actions,
            is_observed,
            features,
        )

    def planned_actions(self, state: RailState, mask: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """What the plan has the trains do, int64 [trains], where ``mask``, bool [trains, 5], allows it.

        ``state`` must be the one that was observed last, with a plan kept.

        Returns:
            The planned actions, others where the mask does not have them; None where there is no plan.
        """
        kept = self._plans.known(state)
        if kept is None:
            return None
        allowed = mask[np.arange(state.n_trains), kept.actions]
        instead = np.where(mask[:, STOP_MOVING], STOP_MOVING, mask.argmax(axis=1))
        return np.where(allowed, kept.actions, instead)

    def settle(self, state: RailState, actions: NDArray[np.int64]) -> None:
        """Makes trains wait, in ``actions``, int64 [trains], whose moves are not safe together with the others'.

        ``state`` must be the one that was observed before the actions were chosen.
        """
        kept = self._plans.known(state)
        leaving = None if kept is None else kept.leaving(state, actions)
        if leaving is None or (leaving.any() and self._safe_moves.all_can_leave(state)):
            self._safe_moves.settle(state, actions)
        elif self._safe_moves.enabled:
            actions[leaving] = np.where(state.row[leaving] < 0, DO_NOTHING, STOP_MOVING)
