"""A cursor of MySQLdb's whose rows stay in the client library until they are fetched."""

import MySQLdb.cursors


class StoredCursor(MySQLdb.cursors.SSCursor):
    """All rows come at once (`mysql_store_result`); each becomes a tuple when it is asked for."""

    def _get_result(self):
        return self._get_db().store_result()
