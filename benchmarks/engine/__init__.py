"""How many durable orders a second the engine places, without HTTP: `python -m benchmarks.engine`."""
