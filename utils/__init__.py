from utils.system.late_imports import import_late

import_late()  # before anything imports flatland
