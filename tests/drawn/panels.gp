reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 653,225 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 1361,468 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 6.8056in,2.3403in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
set output 'scaling-time'.'.'.format.suffix
set multiplot
set border 3 linewidth 0.7 linecolor rgb '#444444'
set tics out nomirror scale 0.5,0.25 font ',7'
set grid ytics linetype 1 linecolor rgb '#dddddd' linewidth 0.5
set logscale x 2
set logscale y 10
unset key
unset label
unset arrow
set lmargin at screen 0.09796
set rmargin at screen 0.39202
set bmargin at screen 0.22849
set tmargin at screen 0.92878
set xrange [61.392904:533.74247]
set yrange [7.5347993e-07:8.9849005e-05]
set xtics ('2^{6}' 2**6,'2^{7}' 2**7,'2^{8}' 2**8,'2^{9}' 2**9)
set ytics ('' 8e-7 1,'' 9e-7 1,'1 µs' 1e-6,'2 µs' 2e-6,'' 3e-6 1,'' 4e-6 1,'5 µs' 5e-6,'' 6e-6 1,'' 7e-6 1,'' 8e-6 1,'' 9e-6 1,'10 µs' 1e-5,'20 µs' 2e-5,'' 3e-5 1,'' 4e-5 1,'50 µs' 5e-5,'' 6e-5 1,'' 7e-5 1,'' 8e-5 1)
set label 'sequence length N (tokens)' at screen 0.24499,0.10682 center font ',8' textcolor rgb '#000000'
set label 'softmax' at screen 0.09796,0.96439 left font ',8' textcolor rgb '#000000'
set arrow from screen 0.39249,0.88257 to screen 0.40835,0.81128 nohead back linecolor rgb '#0072b2' linewidth 0.5 dashtype (2,2)
set label 'softmax.k00' at screen 0.41039,0.81128 left font ',7' textcolor rgb '#0072b2'
set arrow from screen 0.29824,0.67952 to screen 0.40835,0.86113 nohead back linecolor rgb '#d55e00' linewidth 0.5 dashtype (2,2)
set label 'softmax.k01' at screen 0.41039,0.86113 left font ',7' textcolor rgb '#d55e00'
set arrow from screen 0.20399,0.47647 to screen 0.40835,0.91098 nohead back linecolor rgb '#009e73' linewidth 0.5 dashtype (2,2)
set label 'softmax.k02' at screen 0.41039,0.91098 left font ',7' textcolor rgb '#009e73'
set arrow from screen 0.12048,0.66985 to screen 0.21473,0.77138 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N' at screen 0.21881,0.77138 left font ',6.5' textcolor rgb '#666666'
set arrow from screen 0.12048,0.66985 to screen 0.21473,0.87290 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N²' at screen 0.21881,0.87290 left font ',6.5' textcolor rgb '#666666'
set label 'time per call (median and 95 % interval)' at screen 0.01429,0.61424 center rotate font ',6.5' textcolor rgb '#000000'
set label 'Hollow: unreliable (attnbench check says why). Diamonds: where a line crosses that of softmax.k00.' at screen 0.00816,0.02522 left font ',6.5' textcolor rgb '#555555'
plot 'scaling-time'.'.tsv' index 0 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 1 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 2 using 1:3:4 notitle with filledcurves fillcolor rgb '#009e73' fillstyle transparent solid 0.15 noborder, \
     '' index 0 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype solid, \
     '' index 0 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 1 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 1 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00', \
     '' index 1 using 1:($5==1?$2:NaN) notitle with points pointtype 5 pointsize 0.5*symbol linecolor rgb '#ffffff', \
     '' index 1 using 1:($5==1?$2:NaN) notitle with points pointtype 4 pointsize 0.5*symbol linewidth 0.8 linecolor rgb '#d55e00', \
     '' index 2 using 1:2 notitle with lines linecolor rgb '#009e73' linewidth 1.1 dashtype (5,3), \
     '' index 2 using 1:($5==0?$2:NaN) notitle with points pointtype 9 pointsize 0.42*symbol linecolor rgb '#009e73', \
     '' index 2 using 1:($5==1?$2:NaN) notitle with points pointtype 9 pointsize 0.5*symbol linecolor rgb '#ffffff', \
     '' index 2 using 1:($5==1?$2:NaN) notitle with points pointtype 8 pointsize 0.5*symbol linewidth 0.8 linecolor rgb '#009e73'
unset label
unset arrow
set lmargin at screen 0.58469
set rmargin at screen 0.87876
set bmargin at screen 0.22849
set tmargin at screen 0.92878
set xrange [61.392904:533.74247]
set yrange [7.5347993e-07:8.9849005e-05]
set xtics ('2^{6}' 2**6,'2^{7}' 2**7,'2^{8}' 2**8,'2^{9}' 2**9)
set ytics ('' 8e-7 1,'' 9e-7 1,'1 µs' 1e-6,'2 µs' 2e-6,'' 3e-6 1,'' 4e-6 1,'5 µs' 5e-6,'' 6e-6 1,'' 7e-6 1,'' 8e-6 1,'' 9e-6 1,'10 µs' 1e-5,'20 µs' 2e-5,'' 3e-5 1,'' 4e-5 1,'50 µs' 5e-5,'' 6e-5 1,'' 7e-5 1,'' 8e-5 1)
set label 'sequence length N (tokens)' at screen 0.73172,0.10682 center font ',8' textcolor rgb '#000000'
set label 'linear' at screen 0.58469,0.96439 left font ',8' textcolor rgb '#000000'
set arrow from screen 0.87922,0.79829 to screen 0.89508,0.46231 nohead back linecolor rgb '#0072b2' linewidth 0.5 dashtype (2,2)
set label 'linear.k03' at screen 0.89712,0.46231 left font ',7' textcolor rgb '#0072b2'
set arrow from screen 0.78497,0.71220 to screen 0.89508,0.51217 nohead back linecolor rgb '#d55e00' linewidth 0.5 dashtype (2,2)
set label 'linear.k04' at screen 0.89712,0.51217 left font ',7' textcolor rgb '#d55e00'
set arrow from screen 0.69072,0.62464 to screen 0.89508,0.56202 nohead back linecolor rgb '#009e73' linewidth 0.5 dashtype (2,2)
set label 'linear.k05' at screen 0.89712,0.56202 left font ',7' textcolor rgb '#009e73'
set arrow from screen 0.87922,0.84043 to screen 0.89508,0.61187 nohead back linecolor rgb '#cc79a7' linewidth 0.5 dashtype (2,2)
set label 'linear.k06' at screen 0.89712,0.61187 left font ',7' textcolor rgb '#cc79a7'
set arrow from screen 0.78497,0.75063 to screen 0.89508,0.66172 nohead back linecolor rgb '#000000' linewidth 0.5 dashtype (2,2)
set label 'linear.k07' at screen 0.89712,0.66172 left font ',7' textcolor rgb '#000000'
set arrow from screen 0.69072,0.65996 to screen 0.89508,0.71157 nohead back linecolor rgb '#e69f00' linewidth 0.5 dashtype (2,2)
set label 'linear.k08' at screen 0.89712,0.71157 left font ',7' textcolor rgb '#e69f00'
set arrow from screen 0.87922,0.87311 to screen 0.89508,0.76142 nohead back linecolor rgb '#56b4e9' linewidth 0.5 dashtype (2,2)
set label 'linear.k09' at screen 0.89712,0.76142 left font ',7' textcolor rgb '#56b4e9'
set arrow from screen 0.78497,0.78104 to screen 0.89508,0.86113 nohead back linecolor rgb '#0072b2' linewidth 0.5 dashtype (2,2)
set label 'linear.k10' at screen 0.89712,0.86113 left font ',7' textcolor rgb '#0072b2'
set arrow from screen 0.69072,0.68840 to screen 0.89508,0.91098 nohead back linecolor rgb '#d55e00' linewidth 0.5 dashtype (2,2)
set label 'linear.k11' at screen 0.89712,0.91098 left font ',7' textcolor rgb '#d55e00'
set arrow from screen 0.87922,0.88257 to screen 0.89508,0.81128 nohead back linecolor rgb '#999999' linewidth 0.5 dashtype (2,2)
set label 'softmax.k00' at screen 0.89712,0.81128 left font ',7' textcolor rgb '#999999'
set arrow from screen 0.74362,0.30811 to screen 0.83787,0.40963 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N' at screen 0.84195,0.40963 left font ',6.5' textcolor rgb '#666666'
set arrow from screen 0.74362,0.30811 to screen 0.83787,0.51116 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N²' at screen 0.84195,0.51116 left font ',6.5' textcolor rgb '#666666'
set label '' at screen 0.79487,0.71402 front point pointtype 12 pointsize 0.7*symbol linecolor rgb '#000000'
set label '' at screen 0.83398,0.79829 front point pointtype 12 pointsize 0.7*symbol linecolor rgb '#000000'
set label '' at screen 0.86432,0.86366 front point pointtype 12 pointsize 0.7*symbol linecolor rgb '#000000'
plot 'scaling-time'.'.tsv' index 3 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 4 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 5 using 1:3:4 notitle with filledcurves fillcolor rgb '#009e73' fillstyle transparent solid 0.15 noborder, \
     '' index 6 using 1:3:4 notitle with filledcurves fillcolor rgb '#cc79a7' fillstyle transparent solid 0.15 noborder, \
     '' index 7 using 1:3:4 notitle with filledcurves fillcolor rgb '#000000' fillstyle transparent solid 0.15 noborder, \
     '' index 8 using 1:3:4 notitle with filledcurves fillcolor rgb '#e69f00' fillstyle transparent solid 0.15 noborder, \
     '' index 9 using 1:3:4 notitle with filledcurves fillcolor rgb '#56b4e9' fillstyle transparent solid 0.15 noborder, \
     '' index 10 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 11 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 12 using 1:2 notitle with lines linecolor rgb '#999999' linewidth 0.8 dashtype solid, \
     '' index 12 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.25*symbol linecolor rgb '#999999', \
     '' index 3 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype solid, \
     '' index 3 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 4 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 4 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00', \
     '' index 4 using 1:($5==1?$2:NaN) notitle with points pointtype 5 pointsize 0.5*symbol linecolor rgb '#ffffff', \
     '' index 4 using 1:($5==1?$2:NaN) notitle with points pointtype 4 pointsize 0.5*symbol linewidth 0.8 linecolor rgb '#d55e00', \
     '' index 5 using 1:2 notitle with lines linecolor rgb '#009e73' linewidth 1.1 dashtype (5,3), \
     '' index 5 using 1:($5==0?$2:NaN) notitle with points pointtype 9 pointsize 0.42*symbol linecolor rgb '#009e73', \
     '' index 6 using 1:2 notitle with lines linecolor rgb '#cc79a7' linewidth 1.1 dashtype (14,3,3,3), \
     '' index 6 using 1:($5==0?$2:NaN) notitle with points pointtype 11 pointsize 0.42*symbol linecolor rgb '#cc79a7', \
     '' index 7 using 1:2 notitle with lines linecolor rgb '#000000' linewidth 1.1 dashtype solid, \
     '' index 7 using 1:($5==0?$2:NaN) notitle with points pointtype 13 pointsize 0.42*symbol linecolor rgb '#000000', \
     '' index 8 using 1:2 notitle with lines linecolor rgb '#e69f00' linewidth 1.1 dashtype (14,4), \
     '' index 8 using 1:($5==0?$2:NaN) notitle with points pointtype 15 pointsize 0.42*symbol linecolor rgb '#e69f00', \
     '' index 9 using 1:2 notitle with lines linecolor rgb '#56b4e9' linewidth 1.1 dashtype (5,3), \
     '' index 9 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#56b4e9', \
     '' index 10 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype (14,3,3,3), \
     '' index 10 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 11 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype solid, \
     '' index 11 using 1:($5==0?$2:NaN) notitle with points pointtype 9 pointsize 0.42*symbol linecolor rgb '#d55e00'
unset multiplot
unset output
}
