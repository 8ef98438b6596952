"""A figure is drawn at once, then rarely, and never left undrawn."""

from scarce_cxr.monitor import sparing
from scarce_cxr.monitor.sparing import SparingFigure


def test_a_figure_takes_a_quarter_of_a_percent_of_the_time_and_is_up_to_date_in_the_end(monkeypatch):
    clock, drawn = [0.0], []

    def draw():
        clock[0] += 2.0
        drawn.append(clock[0])

    monkeypatch.setattr(sparing.time, "perf_counter", lambda: clock[0])
    figure = SparingFigure(draw)
    # A look every 10 seconds for 1,000 seconds: drawing takes 2 s, so once in 800 s.
    for _ in range(100):
        clock[0] += 10.0
        figure.due()
    assert [round(time) for time in drawn] == [12, 814]
    figure.finish()
    assert len(drawn) == 3
    figure.finish()
    assert len(drawn) == 3
