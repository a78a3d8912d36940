"""A simulator of the video service: a real HTTP server on loopback that holds to the service's documents.

It speaks ``emo-v1``, ``liveportrait`` and ``wan2.2-s2v``, and dedicated deployments of them. It checks headers and
bodies, downloads a task's inputs when the task runs, enforces each model's limits, runs one task of a model at a time,
counts what each model would have cost, and renders a playable MP4 of the right size with the portrait and the voice.
Its temporary storage gives policies, takes forms, and resolves ``oss://`` links. There is no face recogniser in it:
the face is taken to be a little above the picture's middle, and a picture says itself what a portrait check should
find wrong with it (``simulator.inputs.who_is_in``).

Run it with ``python -m simulator --port 0``: it prints one line of JSON, ``{"base_url": …, "control_url": …}``, when it
is ready, and ends at SIGTERM or SIGINT. ``--host`` binds it to another address than 127.0.0.1, ``--also-named`` is what
containers call that address, ``--certificate`` and ``--private-key`` make it speak HTTPS, ``--deployment
my-emo=emo-v1`` adds a dedicated deployment. In a test::

    with Simulator(task_seconds=0.5) as sim:
        sim.fault({"status": 500}, endpoint="create")

Control address
---------------
Under ``/control/`` on the same server, JSON in and out, no key. It is reached by the server's own name only
(127.0.0.1, localhost, or the address that it is bound to), and takes nothing from pages of other sites. ``Simulator``
has a method for each.

``GET /control/state``
    ``tasks`` in the order of their creates (model, inputs, parameters, SHA-256 of what was downloaded, status, Unix
    times, code, message), ``stored`` (the temporary storage's files: key, model, SHA-256, bytes), ``counters``
    (``requests`` and ``throttled`` by endpoint, ``creates_accepted``, ``creates`` and ``paid_cny`` by model,
    ``max_open`` tasks of one model pending and running at once, ``max_running`` of one model, ``max_running_all``,
    ``busy_seconds``, ``first_start``, ``last_end``), ``settings``, ``faults`` with their ``hits``, ``account``,
    ``now``.
``POST /control/settings``
    Any fields of ``simulator.account.Settings``. ``{"manual": true}`` keeps tasks RUNNING until told to finish;
    ``clock_offset_seconds`` moves the account's clock (old ids, dead links, the 3 h limit) without waiting.
``POST /control/tasks/<id>/finish``, ``POST /control/finish-all``
    End one task, or all open ones, at once; one still PENDING will run through when its turn comes.
``POST /control/account``
    ``{"state": "ok"}`` or a name in ``simulator.account.TROUBLES``, with which every call is then answered.
``POST /control/faults``
    Adds a rule and gives its ``id``. The first rule that applies to a call wins. Fields:

    - ``endpoint``: ``check``, ``create``, ``query``, ``list``, ``cancel``, ``policy``, ``upload``, ``result`` or
      ``any`` (default);
    - ``times``: how often it strikes (default 1, ``null``: always); ``probability`` (default 1);
    - ``match``: ``{"task_id": …}``, ``{"contains": …}`` (text in the call's body, or in a link of the task that it is
      about), ``{"nth": n}`` (only the n-th call that matches otherwise);
    - ``action``, one of:

      - ``{"status": 500, "body": …, "headers": {…}}``: this answer; a body of text goes out as a page;
      - ``{"close": "before"}`` or ``"after"``: the connection is cut, before or after the call took effect;
      - ``{"delay": s}``: late, but as usual;
      - ``{"hang": true}``: no answer until the client leaves;
      - ``{"nonsense": name}``: the answer is given as a careless service would, one of `simulator.faults.NONSENSE`:
        ``dates_early``, ``dates_late``, ``surrogates``, ``long_texts`` (300 kB), ``results_list``,
        ``results_nested``, ``results_beside``, ``numbers_huge``, ``numbers_nan``, ``numbers_long``, ``deep``,
        ``not_utf8``, ``wrong_types``;
      - ``{"merge": {…}}``: these fields are laid over the answer's;
      - ``{"task_fails": {"code": …, "message": …}}``: the task ends FAILED (either may be left out);
      - ``{"task_status": "SUSPENDED"}``: what a query tells, whatever the truth;
      - ``{"no_link": true}``: SUCCEEDED without a link;
      - ``{"results": …}``: ``"html"`` (a page), ``"truncated"`` (cut off before its length), ``"wrong_length"`` (half
        a file that looks whole), ``{"drip": bytes per second}``, ``{"redirect": url}``, ``{"too_large": bytes}``,
        ``{"video": {"seconds": s, "width": px, "height": px}}`` (playable, but not the one asked for).

      ``"effect": true`` in an action of ``status`` or ``hang``: the call takes effect all the same (a task is made).
``DELETE /control/faults``
    Drops every rule.
``POST /control/reset``
    Forgets everything and returns to the settings of the start.
"""

from simulator.server import Simulator

__all__ = ["Simulator"]
