/* What vec.h and its includer have defined for one type. */
#undef V
#undef M
#undef LANES
#undef VL
#undef T
#undef IT
#undef NAME
