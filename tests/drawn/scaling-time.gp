reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 653,370 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 1361,771 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 6.8056in,3.8542in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
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
set rmargin at screen 0.81976
set bmargin at screen 0.13874
set tmargin at screen 0.98559
set xrange [62.249917:263.19714]
set yrange [7.4340602e-07:2.1223933e-05]
set xtics ('2^{6}' 2**6,'2^{7}' 2**7,'2^{8}' 2**8)
set ytics ('' 8e-7 1,'' 9e-7 1,'1 µs' 1e-6,'2 µs' 2e-6,'' 3e-6 1,'' 4e-6 1,'5 µs' 5e-6,'' 6e-6 1,'' 7e-6 1,'' 8e-6 1,'' 9e-6 1,'10 µs' 1e-5,'20 µs' 2e-5)
set label 'sequence length N (tokens)' at screen 0.45886,0.06486 center font ',8' textcolor rgb '#000000'
set arrow from screen 0.66185,0.13874 to screen 0.66185,0.98559 nohead back linecolor rgb '#999999' linewidth 0.6 dashtype (2,3)
set label 'q, k, v, o fill L1' at screen 0.67001,0.14955 left rotate font ',6.5' textcolor rgb '#777777'
set label 'softmax.flash  N^{1.99}' at screen 0.83812,0.91420 left font ',7' textcolor rgb '#0072b2'
set label 'linear.fused' at screen 0.83812,0.84151 left font ',7' textcolor rgb '#d55e00'
set label '' at screen 0.66185,0.76882 front point pointtype 12 pointsize 0.7*symbol linecolor rgb '#000000'
set label 'time per call (median and 95 % interval)' at screen 0.01429,0.56937 center rotate font ',8' textcolor rgb '#000000'
set label 'Hollow: unreliable (attnbench check says why). 1 case without a point: 1 timeout. Diamonds: where a line crosses that of softmax.flash.' at screen 0.00816,0.01532 left font ',6.5' textcolor rgb '#555555'
plot 'scaling-time'.'.tsv' index 0 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 1 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 0 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype solid, \
     '' index 0 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 1 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 1 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00', \
     '' index 1 using 1:($5==1?$2:NaN) notitle with points pointtype 5 pointsize 0.5*symbol linecolor rgb '#ffffff', \
     '' index 1 using 1:($5==1?$2:NaN) notitle with points pointtype 4 pointsize 0.5*symbol linewidth 0.8 linecolor rgb '#d55e00'
unset multiplot
unset output
}
