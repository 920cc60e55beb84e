#include "shadowmmu/physical_memory.h"
