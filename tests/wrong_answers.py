"""Usual wrong answers to each exercise, as a reader would write them in the chapter, and a piece of what is said."""

WRONG = {
    "1.1": [
        ("20", "a smaller one still lets Alice pass"),
        ("29", "take the crosses that are drawn"),
        ("18", "k = 10"),
        ("30", "too small"),
        ("'many'", "a number"),
    ],
    "1.2": [("'a'", "eight times"), ("'c'", "eight times fewer"), ("'d'", "jitter"), ("0.15", "must be letters")],
    "1.3": [
        ("{'b'}", "about one set of numbers"),
        ("{'a', 'b', 'e'}", "still be another set of numbers"),
        ("{'b', 'c', 'e'}", "need not be a training"),
        ("{'b', 'd', 'e'}", "What did it cost"),
    ],
    "1.4": [
        ("lambda proving, verifying, spoofs: (True, True)", "accepted spoof at 3"),
        ("lambda p, v, s: (v.wall_seconds < p.wall_seconds, True)", "the first inequality holds"),
        (
            "lambda p, v, s: (v.floating_point_operations < p.floating_point_operations, "
            "any(c.floating_point_operations > p.floating_point_operations for c, ok in s if ok))",
            "one at 3",
        ),
        (
            "lambda p, v, s: (v.floating_point_operations < p.floating_point_operations, "
            "all(c.floating_point_operations >= p.floating_point_operations for c, ok in s if ok))",
            "retraining is",
        ),
        (
            "lambda p, v, s: (v.floating_point_operations < p.floating_point_operations, "
            "all(c.floating_point_operations > p.floating_point_operations for c, ok in s))",
            "rejected",
        ),
        ("lambda p, v, s: True", "must return a pair"),
        ("(True, False)", "must be a function"),
    ],
    "1.5": [
        ("errors[most] / errors[least]", "which factor, applied"),
        ("answer_1_5 - 1", "the factor is"),
        ("errors[most] / errors[least] / (most - least)", "Growth multiplies"),
        ("2", "too large"),
    ],
    "1.6": [
        ("errors[most] * answer_1_5**most / reference", "the prediction"),
        ("measured", "divide it by d_ref"),
        ("errors[most] / reference", "after 50 steps"),
        ("0", "too small"),
    ],
    "2.1": [
        ("answer_2_1 / 2", "without the momentum"),
        ("answer_2_1 * 2", "four bytes"),
        ("answer_2_1 * 1e9 / 2**30", "2^30"),
        ("answer_2_1 * 100", "every k steps"),
        ("170", "every k steps"),
        ("1.5", "too small"),
    ],
    "2.2": [
        ("whole / checkpoints - 1", "in proportion to the checkpoints"),
        ("answer_2_2 * 100", "in percent"),
        ("checkpoints / whole", "the share of the checkpoints"),
        ("'little'", "a number"),
    ],
    "2.3": [
        ("{'conditions', 'versions', 'seed_commitment', 'task'}", "a task of its own"),
        ("{'conditions', 'versions'}", "Something is missing"),
        ("'steps'", "More than T"),
        ("{'checkpoints'}", "no choice"),
        ("3", "must be letters"),
    ],
    "2.4": [
        ("signed", "the batch that was signed"),
        ("points.take(proof.batches()[1])", "labels"),
        ("pk.Points(answer_2_4.images ^ 255, answer_2_4.labels)", "another one"),
        ("pk.Points(answer_2_4.images.float(), answer_2_4.labels)", "must be uint8"),
        ("pk.Points(signed.images.index_fill(0, signed.labels[:1] * 0 + 5, 7), signed.labels)", "90% can be"),
        ("proof.batches()[0]", "must be a batch"),
    ],
    "2.5": [
        (
            "lambda w, v, g, rate, task: ({n: w[n] - rate * (task.momentum * v[n] + g[n]) for n in w}, "
            "{n: task.momentum * v[n] + g[n] for n in w})",
            "decay is missing",
        ),
        (
            "lambda w, v, g, rate, task: ({n: (1 - rate * task.weight_decay) * w[n] - rate * "
            "(task.momentum * v[n] + g[n]) for n in w}, {n: task.momentum * v[n] + g[n] for n in w})",
            "AdamW",
        ),
        (
            "lambda w, v, g, rate, task: ({n: w[n] - rate * (g[n] + task.weight_decay * w[n]) for n in w}, v)",
            "momentum must change",
        ),
        (
            "lambda w, v, g, rate, task: answer_2_5(w, v, {n: value * (1 - task.momentum) for n, value in g.items()},"
            " rate, task)",
            "are not those of update",
        ),
        ("lambda w, v, g, rate, task: answer_2_5(w, v, g, rate, the_task)", "With weight decay 0.5"),
        ("lambda w, v, g, rate, task: answer_2_5(w, v, g, task.learning_rate, task)", "are not those of update"),
        ("lambda w, v, g, rate, task: w", "two dicts"),
        ("pk.distances", "raised TypeError"),
        ("0.9", "a function"),
    ],
    "3.1": [
        ("lambda a, b: max(float((a[n] - b[n]).abs().max()) for n in a)", "NaN in the last"),
        ("lambda a, b: max(float((a[n] - b[n]).abs().max()) for n in reversed(a))", "NaN in the first"),
        ("lambda a, b: pk.distances(a, b)['l1']", "which is l1"),
        ("lambda a, b: float(torch.stack([(a[n] - b[n]).max() for n in a]).max())", "pk.distances says"),
        (
            "lambda a, b: float(torch.stack([x.sub(y).abs().max() for x, y in zip(a.values(), b.values())]).max())",
            "raised RuntimeError",
        ),
        ("lambda a, b: None", "not a number"),
        ("0.5", "must be a function"),
    ],
    "3.2": [
        ("lambda n, f, p: math.ceil(math.log(1 - p) / math.log(1 - f / n))", "No interval is drawn twice"),
        ("lambda n, f, p: math.ceil(p * n / f)", "too few"),
        ("lambda n, f, p: n", "too many"),
        ("lambda n, f, p: n + 1", "it would draw 441"),
        ("lambda n, f, p: p * n / f", "a whole number"),
        ("220", "must be a function"),
    ],
    "3.3": [
        ("{'a', 'd'}", "equal pieces"),
        ("{'b'}", "Something is missing"),
        ("{'b', 'c', 'd'}", "who chooses"),
        ("{'b', 'd', 'e'}", "as good as an announcement"),
    ],
    "4.1": [
        ("int((~halved['passed'].astype(bool)).sum())", "count each interval once"),
        ("0", "too small"),
        ("halved['start'].nunique() - answer_4_1", "stay within it"),
        ("'32'", "a number"),
        (
            "halved.loc[~halved['passed'].astype(bool) & (halved['part'] == 'weights'), 'start'].nunique()",
            "a δ of their own",
        ),
    ],
    "4.2": [
        ("(every.intervals['error'] / every.intervals['threshold']).max()", "for k = 10"),
        ("50", "too large"),
        ("5 * (every.intervals['error'] / every.intervals['threshold']).max()", "simply added up"),
        ("1 / answer_4_2", "turn the fraction over"),
        ("'δ'", "a number"),
    ],
    "4.3": [
        ("answer_4_3 - 1", "must be judged, too"),
        ("math.floor(calibrating) + 1", "must be judged, too"),
        ("calibrating / (1 - verifying['Q = 1'])", "how many whole proofs"),
        ("1000", "too large"),
    ],
    "5.1": [("298", "a few pixels short"), ("19074", "how many images"), ("300", "too large"), ("'many'", "a number")],
    "5.2": [
        (
            "(verdict.intervals.query('part == \"weights\" and distance == \"l2\"').eval('error / threshold').max())",
            "every distance",
        ),
        ("1", "too small"),
        ("float('nan')", "finite"),
    ],
    "5.3": [("answer_5_3 / the_task.checkpoint_interval", "the last one is alone"), ("0.05", "too small")],
    "5.4": [
        ("proof", "accepted whole"),
        ("spoof", "as much as Attack I"),
        ("pk.attack_1(final, the_task, spoof_steps=20, seed=1, calibration=calibration)", "was optimised"),
        ("spoof.folder", "must be a proof"),
        ("pk.retrain(the_task.replace(epochs=1), 3)", "does not end at W_T"),
    ],
    "6.1": [
        ("2 * shortest_path(first, delta)", "fell like 1/T'"),
        ("shortest_path(first, delta)", "whole δ"),
        ("answer_6_1 // k", "counted in steps"),
        ("answer_6_1 + k", "too large"),
        ("'twice'", "a number"),
    ],
    "6.2": [
        ("shortest_path(fresh, {name: delta[name] for name in ('l1', 'l2', 'linf')}, 15)", "closest to the origin"),
        ("int(pk.distances(fresh.weights, final.weights)['cos'] / delta['cos'] + 1) * k", "cos is no length"),
        ("shortest_path(first, delta)", "too small"),
        ("answer_6_2 // k", "counted in steps"),
    ],
    "6.3": [
        ("(1 / answer_6_3[0], 'd')", "fraction over"),
        ("answer_6_3[0]", "a pair"),
        ("(answer_6_3[0], 'b')", "the path made more of it"),
        ("(verdict.intervals.query('part == \"weights\"').eval('error / threshold').max(), 'd')", "buffers too"),
        ("(answer_6_3[0], 'c')", "part and the steps"),
    ],
    "6.4": [
        (
            "lambda drawn, target: drawn.flatten().sort().values[target.flatten().argsort()].reshape(target.shape)",
            "not the rank",
        ),
        (
            "lambda drawn, target: drawn.flatten().sort(descending=True).values[target.flatten().argsort().argsort()]"
            ".reshape(target.shape)",
            "not in the target's order",
        ),
        ("lambda drawn, target: drawn.sort().values[target.argsort().argsort()]", "shape"),
        ("lambda drawn, target: target", "does not hold the drawn numbers"),
        ("lambda drawn, target: drawn.sort_(0).values", "raised AttributeError"),
        ("lambda drawn, target: drawn.copy_(answer_6_4(drawn, target))", "changes a tensor"),
        ("answer_6_4(first.weights['head.weight'], final.weights['head.weight'])", "must be a function"),
    ],
    "6.5": [
        ("{'c'}", "One more"),
        ("'d'", "leaves the perturbation out"),
        ("{'a', 'c', 'd'}", "suffice together"),
        ("{'c', 'd', 'f'}", "how much room"),
        ("7", "must be letters"),
    ],
    "6.6": [
        ("even", "It is rejected"),
        ("spoof", "points of its own"),
        ("proof", "longer than this chapter's"),
        ("pk.interpolation_only(final, the_task, spoof_steps=14 * k, seed=1)", "passes as well"),
        ("pk.borrowed_momentum(final, the_task, spoof_steps=4 * k, seed=1)", "Momentum"),
        ("pk.retrain(the_task.replace(epochs=1), 3)", "does not end at W_T"),
        ("0.5", "must be a proof"),
    ],
    "7.1": [("98 / 100", "fraction over"), ("99", "the difference"), ("1.25", "at k = 10"), ("1.0", "too small")],
    "7.2": [
        ("lambda k, momentum: [1 / (1 - momentum) if momentum < 1 else k] * k", "carried for ever"),
        ("lambda k, momentum: answer_7_2(k, momentum)[::-1]", "reversed"),
        ("lambda k, momentum: [1] * k", "left out"),
        ("lambda k, momentum: [(1 - momentum**(k - i)) / (1 - momentum) for i in range(k)]", "ZeroDivisionError"),
        ("lambda k, momentum: sum(answer_7_2(k, momentum))", "a list of 1 numbers"),
        ("41", "must be a function"),
    ],
    "7.3": [
        ("{'a', 'c'}", "on every device"),
        ("{'b', 'c'}", "same images"),
        ("set()", "depends on the machine"),
        ("'seconds'", "no choice"),
    ],
    "7.4": [
        ("(answer_7_4[0] + 1, 'b')", "above δ already"),
        ("(answer_7_4[0], 'a')", "one by one"),
        ("(answer_7_4[0], 'c')", "larger still"),
        ("answer_7_4[0]", "a pair"),
        (
            "(next(k for k in range(2, 99) if pk.corollary_bound(learning_rate=the_task.learning_rate, "
            "first_derivative=bounds['alpha'][0], second_derivative=bounds['beta'][0], checkpoint_interval=k + 1, "
            "as_printed=True) > threshold), 'b')",
            "as far as the printed bound",
        ),
    ],
    "7.5": [
        ("10 * next(n for n in range(1, 99) if fits(n, 1))", "the verifier's δ"),
        ("10 * next(n for n in range(1, 99) if fits(n, 0.75))", "σ is kept back"),
        ("answer_7_5 // 10", "counted in steps"),
        ("answer_7_5 + 20", "too large"),
    ],
    "7.6": [
        ("spoof", "1.00 of the operations"),
        ("proof", "another attack's"),
        ("share", "must be a proof"),
        ("pk.attack_3(final, the_task, spoof_steps=20, seed=1, calibration=calibration, iterations=0)", "No batch"),
        (
            "pk.attack_3(final, the_task, spoof_steps=20, seed=1, calibration=calibration, iterations=1)",
            "cheap enough, but rejected",
        ),
    ],
    "8.1": [
        ("{0.5: (100, 400), 2: (30, 400)}", "is too"),
        ("(1, 2)", "must be a dict"),
        ("{0.5: answer_8_1[2], 2: answer_8_1[0.5]}", "at the other δ"),
        ("{**answer_8_1, 2: None}", "is open"),
        ("{**answer_8_1, 2: (answer_8_1[2][0], 2 * answer_8_1[2][1])}", "what a step of the spoof costs"),
    ],
    "8.2": [
        ("{'c'}", "longer way"),
        ("{'c', 'd', 'e'}", "alike"),
        ("{'a', 'c', 'e'}", "does not change the least T'"),
        ("7", "must be letters"),
    ],
    "8.3": [
        ("lambda scale: answer_8_3(scale) // k", "number of intervals"),
        ("70", "must be a function"),
        (
            "lambda scale: pk.distances(final.weights, pk.sorted_initialisation(the_task, final, 0).weights)['l2'] * k"
            " / (scale * calibration.thresholds['weights']['l2'])",
            "is too small",
        ),
        ("lambda scale: answer_8_3(scale) - k if scale < 1 else answer_8_3(scale)", "still longer than δ"),
    ],
    "8.4": [
        ("answer_8_4[::-1]", "wrong order"),
        ("answer_8_4[:1] * 2", "ten times as many pieces"),
        ("(answer_8_4[0], 10 * answer_8_4[0])", "further"),
        ("answer_8_4[0]", "must be 2 numbers"),
    ],
    "9.1": [
        ("2516", "break-even itself"),
        ("780", "c is missing"),
        ("0.81", "divided by c already"),
        ("'25'", "must be a number"),
    ],
    "9.2": [
        ("answer_9_2[::-1]", "wrong order"),
        ("(14.2, 14.2)", "a k-th of that"),
        ("141.9", "must be 2 numbers"),
        ("(141.9, 440)", "leaves c out"),
    ],
    "9.3": [
        (
            "spoof_rows(runs['strict']).query(\"attack == 'Attack II' and spoof_steps == 140\")['ratio'].max()",
            "the weights alone",
        ),
        ("0.1", "too small"),
        ("1", "still rejects"),
    ],
    "10.1": [
        ("scales", "stages' pace"),
        ("(1, 0.001, 0.001)", "honest proof"),
        ("(1, 1, 1)", "one δ again"),
        ("(1, 0.5)", "must be 3 multiples"),
        ("0.5", "must be 3 multiples"),
    ],
    "10.2": [
        ("lambda m: 0.9 * m", "too small"),
        ("lambda m: 0.9 / (1 - 10**-m)", "the m-th part"),
        ("lambda m: float(m)", "cover a little too"),
        ("lambda m: (1 - 10**-m) / (0.9 * m)", "turn it over"),
        ("9", "must be a function"),
    ],
    "10.3": [
        ("(5e-5, answer_10_3[1])", "carries each step's decay on"),
        ("(5e-4, answer_10_3[1])", "in the long run"),
        ("(answer_10_3[0], scales[-1])", "no length yet"),
        ("(answer_10_3[0], answer_10_3[1] * length)", "a distance"),
        ("answer_10_3[0]", "must be 2 numbers"),
    ],
    "10.4": [
        ("'a'", "besides the pixels"),
        ("{'a', 'b', 'c'}", "nothing about when"),
        ("{'a', 'b', 'e'}", "its date"),
        ("1", "must be letters"),
    ],
    "10.5": [
        ("lambda edges, scales: [(0, 0), (1, 1)]", "same share of its own δ"),
        ("[(0, 0)]", "must be a function"),
        ("lambda edges, scales: list(zip([*edges, 1.0], np.cumsum([0, *scales]) / sum(scales)))", "of the way"),
        ("lambda edges, scales: answer_10_5(edges, scales)[:-1]", "end at (1, 1)"),
        ("lambda edges, scales: list(edges)", "must return pairs"),
    ],
    "11.1": [
        ("lambda now, aim, task, start: answer_11_1(aim, now, task, start)", "go away"),
        (
            "lambda now, aim, task, start: {name: task.momentum * v"
            " for name, v in answer_11_1(now, aim, task, start).items()}",
            "the first update too",
        ),
        ("lambda now, aim, task, start: answer_11_1(now, aim, task, 0)", "learning rate drops"),
        ("lambda now, aim, task, start: 0.0", "must return a dict"),
    ],
    "11.2": [
        ("lambda folder: True", "accepts infinitesimal update"),
        ("lambda folder: False", "rejects an honest"),
        ("lambda folder: folder.steps == the_task.steps", "an honest training of"),
        ("True", "must be a function"),
        ("lambda folder: pk.defences.straightness(folder) < 0.9", "accepts borrowed momentum in a zigzag"),
        ("lambda folder: folder.steps", "True or False"),
    ],
    "11.3": [
        ("answer_11_3 / 10", "every step has one"),
        ("answer_11_3 / 8", "not one"),
        ("100 * answer_11_3", "in percent"),
        ("1 / answer_11_3", "Turn the fraction over"),
        ("0.5", "too large"),
    ],
    "12.1": [
        ("lambda *case: answer_12_1(*case) - sum(v > case[1] * case[3] for v in case[0])", "interval before"),
        (
            "lambda speeds, limit, way, share, p: answer_12_1(speeds, limit, way - share * limit, share, p)",
            "How many hops",
        ),
        ("lambda speeds, limit, way, share, p: 2 * sum(v > share * limit for v in speeds)", "found by chance"),
        ("3", "must be a function"),
        ("lambda *case: len(case[0])", "too large"),
    ],
    "12.2": [
        ("{'nothing too fast'}", "passes all of them"),
        ("{*answer_12_2, 'memorised'}", "fewer of them do"),
        ("{'recommended'}", "not one of the defences"),
        ("{'adaptive threshold'}", "rejects the honest proof"),
        ("{'clock'}", "not one of the defences"),
        ("2", "must be a set"),
    ],
    "12.3": [
        ("{'b', 'd', 'e', 'c'}", "the verifier who computes"),
        ("{'b', 'e'}", "a step in float64"),
        ("{'a', 'b', 'd', 'e'}", "nothing beside"),
        ("{'d', 'e'}", "store at every checkpoint"),
    ],
}
