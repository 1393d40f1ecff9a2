"""What a simulation plays: tasks, machine, the plan for them, and imagined workers that cost what this plan says."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from appliance.arc.source import load_tasks
from appliance.arc.task import TaskSet
from appliance.clock import parse_duration
from appliance.config import (
    Layer,
    Settings,
    assignments_layer,
    environment_layer,
    file_layer,
    profile_layer,
    resolve,
)
from appliance.errors import UsageError
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine, find_machine
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import Faults, parse_faults
from appliance.run.rehearsal.rehearsal import POLLS, Baseline, Rehearsal, rehearse, static_baseline
from appliance.run.schedule.measured_costs import TaskCost
from appliance.run.schedule.planned_costs import Prospect
from appliance.run.workers import PLANNED_SETTINGS
from appliance.sizing.costs.model_card import ARC_MINI, ModelCard, load_card
from appliance.sizing.costs.task_lengths import TaskLengths, lengths_of
from appliance.sizing.pins import Pins
from appliance.sizing.plan import Plan
from appliance.sizing.request import SizingRequest
from appliance.sizing.sizing import size


@dataclass(frozen=True)
class Given:
    """The arguments, read: what does not change with the tasks."""

    machine: Machine
    cards: tuple[ModelCard, ...]
    pins: Pins
    budget_s: float
    faults: Faults
    args: argparse.Namespace

    @staticmethod
    def of(args: argparse.Namespace) -> Given:
        for flag in ("seeds", "limit", "at_once", "shards"):
            count = getattr(args, flag)
            if count is not None and count < 1:
                name = f"--{flag.replace('_', '-')}"
                raise UsageError(f"{name} {count}", expected="1 or more", remedy=f"pass {name} 1")
        machine = find_machine()
        return Given(
            machine if args.gpu is None else imagined(machine, args.gpu),
            tuple(
                load_card(name.strip())
                for text in args.model or [ARC_MINI]
                for name in text.split(",")
            ),
            Pins.parse([text for group in args.pin for text in group]),
            parse_duration(args.budget),
            parse_faults(args.inject),
            args,
        )

    def tasks(self) -> TaskSet:
        tasks = load_tasks(self.args.tasks)
        return tasks.select(tasks.ids()[: self.args.limit])

    def plan(self, tasks: TaskSet, *, budget_s: float) -> Plan:
        lengths = max((lengths_of(tasks, card) for card in self.cards), key=TaskLengths.longest)
        return size(self.machine, self.cards, SizingRequest(lengths, budget_s, self.pins))

    def settings(self, plan: Plan) -> Settings:
        """As in a real run: the plan's values lie under what the user set; steps are bounded by the settings, or pinned."""
        args, pins = self.args, self.pins
        layers = [
            Layer(
                "plan",
                {
                    key: value
                    for key, value in plan.to_settings().items()
                    if key in PLANNED_SETTINGS
                },
            )
        ]
        if args.profile:
            layers.append(profile_layer(args.profile))
        if args.config:
            layers.append(file_layer(args.config))
        layers += [environment_layer(os.environ), assignments_layer(args.set)]
        pinned: dict[str, Any] = {"run.budget_s": args.budget}
        if pins.steps_per_task is not None:
            pinned |= {
                "train.enabled": pins.steps_per_task > 0,
                "train.max_steps": max(1, pins.steps_per_task),
            }
        if pins.views is not None:
            pinned["sample.views"] = pins.views
        return resolve([*layers, Layer("flags", pinned)])

    def scene(self, tasks: TaskSet) -> Scene:
        plan = self.plan(tasks, budget_s=self.budget_s)
        settings = self.settings(plan)
        batch = plan.costs.sample.batch if self.args.at_once is None else self.args.at_once
        at_once = replace(plan.costs, sample=replace(plan.costs.sample, batch=batch))
        costs = Prospect.of(at_once, tasks, settings, room_gib=plan.room_gib).task_costs()
        true_costs = ImaginedCosts(costs, settings, load_s=plan.costs.load_s())
        num_workers = plan.workers.value if self.machine.gpus else settings.run.workers
        return Scene(
            tasks, plan, settings, costs, true_costs, num_workers, self.budget_s, self.faults
        )


@dataclass(frozen=True)
class Scene:
    """Everything that a rehearsal needs but its seed."""

    tasks: TaskSet
    plan: Plan
    settings: Settings
    costs: Mapping[str, TaskCost]
    true_costs: ImaginedCosts
    num_workers: int
    budget_s: float
    faults: Faults

    def rehearse(self, seed: int, *, polls: int = POLLS) -> Rehearsal:
        return rehearse(
            self.tasks,
            self.settings,
            self.true_costs,
            num_workers=self.num_workers,
            budget_s=self.budget_s,
            faults=self.faults,
            seed=seed,
            costs=self.costs,
            polls=polls,
        )

    def baseline(self) -> Baseline:
        return static_baseline(
            self.tasks,
            self.settings,
            self.true_costs,
            num_workers=self.num_workers,
            budget_s=self.budget_s,
            seed=0,
        )
