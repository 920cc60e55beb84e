#include "runtime/machine.h"
