"""The emoji benchmark: composed queries whose answers follow from Unicode, offline."""
