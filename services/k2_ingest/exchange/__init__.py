"""The test exchange: Binance's spot streams and market-data REST API, from captures or a seeded generator."""
